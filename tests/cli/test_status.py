"""`epsgrid status`, `retry` and `forget`."""


def test_status_counts_trials_and_says_what_comes_next(swept):
    done = swept.call("status")
    assert "2 of 2 trials finished (100 %): 2 done" in done.stdout
    assert "Next: epsgrid report" in done.stderr
    assert swept.call("status", "--trials").stdout.count(" done") >= 2
    document = swept.json("status")
    assert document["states"]["done"] == document["trials"] == len(document["all"]) == 2
    assert "torch" not in swept.imported("status")


def test_forget_then_retry(swept):
    trial = swept.json("status")["all"][0]["id"]
    assert f"archived: {swept.folder}/runs/tiny/archive/{trial}-1" in swept.call("forget", trial[:10]).stdout
    assert "1 pending" in swept.call("status").stdout
    assert "1 trained now" in swept.call("retry", trial, "--quiet").stdout
    again = swept.call("retry", trial, "--quiet")
    assert f"archive/{trial}-2" in again.stderr
    assert "1 trained now" in again.stdout
    assert "Nothing to do: no trial is failed." in swept.call("retry", "failed").stderr
    assert swept.json("forget", trial)["archived"] == [f"{swept.folder}/runs/tiny/archive/{trial}-3"]
    assert "no trial 'faild' here; did you mean 'failed'?" in swept.call("retry", "faild", expect=2).stderr
