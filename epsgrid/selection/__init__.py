"""WHICH ε IS BEST: from stored results to the questions that they can answer.

    load        read an experiment's folder                                     -> StoredExperiment
    cells       group trials by learning rate and ε                             -> Cell, Choice
    best        find the best setting of each grid, and what the grid cost      -> BestRow, CostRow
    trained     gather the settings that can be compared                        -> Trained
    answers     answer the questions                                            -> Answers
    deciding    choose contenders, and when to look at fresh seeds
    formatting  write metrics, differences, ε and durations

The stages plan with it and the report shows it. Nothing here needs torch.
"""
