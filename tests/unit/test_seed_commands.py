"""The command of the modules whose experiments run seed by seed: nothing lost or half-written."""

from __future__ import annotations

import pytest

from advreg import experiments, twolayer_experiments, wdro_experiments

MODULES = pytest.mark.parametrize("module", [wdro_experiments, twolayer_experiments])


def run(module, folder, *words):
    return module.main(["plane", "--out", str(folder / "r.json"), *words])


@MODULES
def test_an_interrupted_command_goes_on(module, tmp_path, monkeypatch, capsys):
    (tmp_path / "whole").mkdir(), (tmp_path / "cut").mkdir()
    rest, done = module.EXPERIMENTS["plane"][1:], []

    def work(seed, epochs, images):
        return [{"method": "a", "seed": seed, "value": seed / 3}]

    def cut(seed, *words):
        if done == [0]:
            done.append("cut")
            raise KeyboardInterrupt
        done.append(seed)
        return work(seed, *words)

    monkeypatch.setitem(module.EXPERIMENTS, "plane", (work, *rest))
    assert run(module, tmp_path / "whole", "--seeds", "0,1") == 0
    monkeypatch.setitem(module.EXPERIMENTS, "plane", (cut, *rest))
    assert run(module, tmp_path / "cut", "--seeds", "0,1") == 130
    assert "finished seeds are kept" in capsys.readouterr().out
    assert not (tmp_path / "cut" / "r.json").exists()
    assert run(module, tmp_path / "cut", "--seeds", "0,1", "--epochs", "5") == 2
    assert "epochs differ" in capsys.readouterr().err
    assert run(module, tmp_path / "cut", "--seeds", "0,1") == 0
    assert done == [0, "cut", 1]
    whole, cut_off = (module.load(tmp_path / d / "r.json") for d in ("whole", "cut"))
    assert whole == cut_off and list((tmp_path / "cut").iterdir()) == [tmp_path / "cut" / "r.json"]


@MODULES
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plane"], "--out"),
        (["nothing", "--out", "x"], "invalid choice"),
        (["plane", "--out", "x", "--seeds", "3-1"], "names no seed"),
        (["plane", "--out", "x", "--epochs", "0"], "is not an integer of at least"),
        (["plane", "--out", "x", "--images", "1"], "is not an integer of at least"),
    ],
)
def test_the_command_refuses_in_a_sentence(module, words, message, capsys):
    with pytest.raises(SystemExit) as error:
        module.main(words)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


@MODULES
def test_a_missing_folder_and_a_missing_or_edited_result(module, tmp_path, capsys):
    assert run(module, tmp_path / "no") == 2
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=rf"python -m {module.__name__} plane"):
        module.load(tmp_path / "plane.json")
    content = {"name": "x", "seeds": [0], "rows": [{"seed": 0, "method": "a", "v": 0.5}]}
    experiments.store(tmp_path / "r.json", content)
    assert module.load(tmp_path / "r.json")["rows"] == content["rows"]
    text = (tmp_path / "r.json").read_text(encoding="utf8")
    (tmp_path / "r.json").write_text(text.replace("0.5", "0.6"), encoding="utf8")
    with pytest.raises(ValueError, match="edited or damaged"):
        module.load(tmp_path / "r.json")
