"""WHICH ε IS BEST: from stored results to the questions that they can answer.

    load        read an experiment's folder                                     -> StoredExperiment
    cells       group trials by learning rate and ε                             -> Cell, Choice
    best        find the best setting of each grid, and what the grid cost      -> BestRow, CostRow
    trained     find the settings that can be compared, and their margin        -> Trained
    evidence    read what questions are answered from, fresh seeds included     -> Evidence
    answers     answer the questions that a sweep can decide                    -> Answers
    deciding    choose contenders for fresh seeds, and when to look
    extending   choose learning rates beyond the grid                           -> AddedRate
    formatting  write metrics, differences, ε and durations

The stages plan with it and the report shows it. Nothing here needs torch.
"""
