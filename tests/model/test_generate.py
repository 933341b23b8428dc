"""Slots against the plainest decoding there is, and against transformers' generate."""

import dataclasses

import pytest
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from model import device
from model.decoder import Qwen3Decoder
from model.generate import Generated, Generator, Job
from model.sampling import Sampling
from tests.model import tiny, tracing

CONFIG = tiny.DECODER
STOP = (0, 1)


@pytest.fixture(scope="module")
def decoder() -> Qwen3Decoder:
    return tiny.decoder()


def jobs(decoder: Qwen3Decoder, count: int, **changes: object) -> list[Job]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(count):
        ids = torch.randint(2, CONFIG.vocab, (4 + 5 * index % 13,), generator=generator)
        made.append(Job(decoder.embed_tokens(ids), ids, 12 + index))
    return [dataclasses.replace(job, **changes) for job in made]  # type: ignore[arg-type]


def plain_greedy(decoder: Qwen3Decoder, prompt: Tensor, most: int) -> list[int]:
    ids = prompt.tolist()
    for _ in range(most):
        token = int(decoder(decoder.embed_tokens(torch.tensor([ids])))[0, -1].argmax())
        if token in STOP:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_equals_decoding_without_slots_or_cache(decoder: Qwen3Decoder) -> None:
    todo = jobs(decoder, 7)
    done = Generator(decoder, STOP, slots=3, capacity=64).run(todo)
    assert [list(g.ids) for g in done] == [
        plain_greedy(decoder, j.prompt_ids, j.max_new_tokens) for j in todo
    ]
    assert len({g.finish for g in done}) > 1  # some end by themselves, some by their limit


def test_equals_transformers_with_a_penalty(decoder: Qwen3Decoder) -> None:
    reference = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=61,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=48,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        )
    )
    reference.load_state_dict(decoder.state_dict())
    reference.train(False)
    for job in jobs(decoder, 4, sampling=Sampling(repetition_penalty=1.2)):
        expected = reference.generate(  # type: ignore[misc]
            job.prompt_ids[None],
            attention_mask=torch.ones(1, len(job.prompt_ids), dtype=torch.long),
            max_new_tokens=job.max_new_tokens,
            do_sample=False,
            repetition_penalty=1.2,
            eos_token_id=list(STOP),
            pad_token_id=0,
        )[0, len(job.prompt_ids) :].tolist()
        (ours,) = Generator(decoder, STOP, slots=2, capacity=64).run([job])
        assert list(ours.ids) == [token for token in expected if token not in STOP]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_job_does_not_depend_on_its_neighbours(decoder: Qwen3Decoder, temperature: float) -> None:
    todo = jobs(decoder, 6, sampling=Sampling(temperature, top_p=0.9, top_k=20, seed=4))
    generator = Generator(decoder, STOP, slots=4, capacity=64)
    with (
        device.one_thread()
    ):  # as the engine decodes; with more, some CPUs give the last bit by a row's place
        together = generator.run(todo)
        assert generator.run(todo[::-1])[::-1] == together
        assert [generator.run([job])[0] for job in todo] == together


def test_a_shared_prefix_changes_nothing(decoder: Qwen3Decoder) -> None:
    generator = Generator(decoder, STOP, slots=2, capacity=64)
    plain = jobs(decoder, 5)
    split = []
    for job in plain:
        _, prefix = decoder.extend(job.embeds_PD[:3], torch.arange(3), None, None)
        split.append(dataclasses.replace(job, embeds_PD=job.embeds_PD[3:], prefix=prefix))
    assert [g.ids for g in generator.run(split)] == [g.ids for g in generator.run(plain)]


def test_a_loop_is_cut(decoder: Qwen3Decoder) -> None:
    with torch.no_grad():
        stuck = Qwen3Decoder(CONFIG).eval()
        stuck.model.norm.weight.zero_()  # all logits equal: greedy says token 0 for ever, which does not stop here
    ids = torch.tensor([7, 8, 9])
    (done,) = Generator(stuck, (60,), slots=1, capacity=128).run([Job(stuck.embed_tokens(ids), ids, 100)])
    assert done == Generated((0,), done.log_probs, "loop")


def test_a_prompt_that_does_not_fit_is_refused(decoder: Qwen3Decoder) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Generator(decoder, STOP, slots=1, capacity=15).run(jobs(decoder, 1))


def test_a_finished_slot_is_refilled_at_the_next_step(decoder: Qwen3Decoder) -> None:
    todo = jobs(decoder, 5)
    generator = Generator(decoder, STOP, slots=2, capacity=64)
    alone = [generator.run([job])[0].ids for job in todo]
    done = dict(generator.admit(list(enumerate(todo[:2]))))
    waiting = list(enumerate(todo))[:1:-1]
    steps = 0
    while generator.free < 2:
        done |= dict(generator.step())
        steps += 1
        if generator.free and waiting:
            done |= dict(generator.admit([waiting.pop()]))
    assert [done[index].ids for index in range(5)] == alone
    assert steps < sum(len(done[index].log_probs) for index in range(5))  # they shared their steps
    with pytest.raises(ValueError, match="3 jobs for 2 free slots"):
        generator.admit(list(enumerate(todo[:3])))


def test_tokens_can_be_followed_as_they_come(decoder: Qwen3Decoder) -> None:
    heard: list[int] = []
    (job,) = jobs(decoder, 1, on_token=heard.append)
    (done,) = Generator(decoder, STOP, slots=2, capacity=64).run([job])
    assert tuple(heard[: len(done.ids)]) == done.ids
    assert len(heard) == len(done.log_probs)


def test_prompts_prefilled_together_give_the_same(decoder: Qwen3Decoder) -> None:
    """As on a GPU: several prompts of different length and beginning in one pass."""
    todo = jobs(decoder, 6)
    _, prefix = decoder.extend(todo[1].embeds_PD[:3], torch.arange(3), None, None)
    todo[1] = dataclasses.replace(todo[1], embeds_PD=todo[1].embeds_PD[3:], prefix=prefix)
    one_by_one = Generator(decoder, STOP, slots=4, capacity=64)
    together = Generator(decoder, STOP, slots=4, capacity=64, together=True)
    assert [g.ids for g in together.run(todo)] == [g.ids for g in one_by_one.run(todo)]


@tracing.OF_TORCH_ITSELF
def test_a_compiled_step_is_the_same_and_compiles_once_per_shape(
    decoder: Qwen3Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the C++ compiler makes of a step is compared in test_engine.py."""
    plain = Generator(decoder, STOP, slots=2, capacity=300).run(jobs(decoder, 4))
    tracing.trace_only(monkeypatch)
    compiled = Generator(decoder, STOP, slots=2, capacity=300, compile=True)
    compiled.warm_up()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == len(compiled._key_buckets) == 2
    torch._dynamo.utils.counters.clear()
    assert [g.ids for g in compiled.run(jobs(decoder, 4))] == [g.ids for g in plain]
    assert not torch._dynamo.utils.counters["graph_break"]
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]  # nothing new after the warm-up
