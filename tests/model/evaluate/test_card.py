"""The tables of a model card, from reports as the commands print them."""

from typing import Any

from model.evaluate.card import Measured, page, rows

ASR: dict[str, Any] = {
    "utterances": 108,
    "words": 762,
    "wer": 37 / 762,
    "wer_low": 0.035,
    "wer_high": 0.064,
    "cer": 0.022,
    "times_real_time": 21.8,
    "groups": {"espeak": {"wer": 0.067, "words": 252}},
    "calibration": [
        {"what": "words", "count": 700, "confidence": 0.89, "accuracy": 0.9, "ece": 0.02, "auc": None}
    ],
}
SCENES = {
    "scenes": 100,
    "question": 0.99,
    "caption": 0.98,
    "question_shuffled": 0.18,
    "caption_shuffled": 0.17,
    "confused": {"tones called music": 1},
}

NONSPEECH = {
    "minutes": 21.81,
    "words": {"silence": 0, "noise": 2},
    "words_per_minute": 0.092,
    "prompts": {"recall": 0.895},
    "end_to_end_words": 6,
    "end_to_end_windows": 115,
}


def times(name: str) -> list[dict[str, Any]]:
    told = ("median absolute difference", "median difference (late > 0)")
    return [
        {"name": f"{name}: word {edge}, {what}", "value": value, "items": 9}
        for edge in ("starts", "ends")
        for what, value in zip(told, (40.0, -10.0), strict=True)
    ]


def test_rows_as_the_card_has_them() -> None:
    digits = [{"name": f"no pause, by {way}: WER", "value": 1.34} for way in ("joint", "ctc")]
    share = {"name": "voice", "value": 70.5, "low": 60.0, "high": 80.0, "items": 73, "note": "note"}
    found = rows(
        [
            Measured("asr heldout-voices-call", "eureka evaluate asr", ASR),
            Measured("scenes", "eureka evaluate scenes", SCENES),
            Measured("nonspeech", "eureka evaluate nonspeech", NONSPEECH),
            Measured("times", "eureka evaluate times", {"utterances": 5, "measures": times("prompts")}),
            Measured(
                "digits", "eureka evaluate digits", {"strings": 60, "measures": digits + times("no pause")}
            ),
            Measured("voices", "eureka evaluate voices", {"measures": [share]}),
        ]
    )
    assert found == [
        "| held-out synthetic voices, new sentences of trained templates, WER / CER | **4.9 %** (3.5 % – 6.4 %) / "
        "2.2 % on 108 utterances, 762 words (37 wrong), 22× real time | `eureka evaluate asr` |",
        "| 100 unseen scenes, sound question / caption names the class | **99.0 %** / 98.0 %; confused: "
        "tones called music (1) | `eureka evaluate scenes` |",
        "| the same with the audio shuffled (chance is 20 %) | 18.0 % / 17.0 % | same |",
        "| words on 21.8 min of silence, noise, hold music, tones, no VAD | **2** (0.09 per minute; silence 0, noise 2)"
        " | `eureka evaluate nonspeech` |",
        "| the same end to end, as a worker cuts it | **6** in 115 windows that the VAD lets through | same |",
        "| recall of words on the real prompts, same run | 89.5 % | same |",
        "| word times on 5 prompts against an independent aligner, median difference | starts 40 ms (-10; late > 0), "
        "ends 40 ms (-10; late > 0); 9 words | `eureka evaluate times` |",
        "| 60 strings of real digits of a held-out speaker, no pause, WER | 1.3 % by both witnesses, "
        "1.3 % by the CTC head | `eureka evaluate digits` |",
        "| word times in these, exactly known | starts 40 ms (-10; late > 0), ends 40 ms (-10; late > 0); 9 words "
        "| same |",
        "| held-out voices: voice | 70 % (60 – 80) of 73; note | `eureka evaluate voices` |",
    ]


def test_what_was_not_measured_is_told() -> None:
    told = page("T", "made", [Measured("times", "eureka evaluate times", None, "no aligner")])
    assert "- `eureka evaluate times`: no aligner" in told
    assert "By part" not in told
    told = page("T", "made", [Measured("asr calls", "eureka evaluate asr", ASR)])
    assert "| espeak | 6.7 % of 252 words |" in told
    assert "| asr calls | words | 700 | 89.0 % | 90.0 % | 0.02 | — |" in told
    assert "Not measured" not in told
