"""Whole chat answers."""

import uuid

import pytest

QUESTION = "What is a relay race?"


def test_models_are_listed_and_found_by_name(client, model):
    [listed] = client.models.list().data
    found = client.models.retrieve(model)
    assert listed.id == found.id == model
    assert listed.object == found.object == "model"
    assert listed.owned_by and listed.created > 0


def test_an_answer_has_every_field(chat, model):
    answer = chat(QUESTION)
    [choice] = answer.choices
    assert answer.object == "chat.completion" and answer.model == model
    assert answer.id.startswith("chatcmpl-") and answer.created > 0
    assert choice.index == 0 and choice.message.role == "assistant"
    assert choice.message.content and choice.logprobs is None
    assert choice.finish_reason == "length"


def test_usage_adds_up(chat):
    usage = chat(QUESTION, max_tokens=9).usage
    assert usage.completion_tokens == 9
    assert usage.prompt_tokens > 10
    assert usage.total_tokens == usage.prompt_tokens + 9
    assert 0 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_ids_differ(chat):
    assert chat(QUESTION, max_tokens=1).id != chat(QUESTION, max_tokens=1).id


def test_an_answer_that_ends_by_itself_says_stop(chat):
    answer = chat("Reply with the single word: yes", max_tokens=200)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens < 200
    assert "<|im_end|>" not in answer.choices[0].message.content


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit_work(client, model, name):
    messages = [{"role": "user", "content": QUESTION}]
    answer = client.chat.completions.create(model=model, messages=messages, **{name: 5})
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"


def test_system_developer_and_parts_are_read(chat):
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "a relay race?"}]
    turns = lambda role, content: [{"role": role, "content": "Be brief."}, {"role": "user", "content": content}]
    system = chat(None, messages=turns("system", QUESTION))
    developer = chat(None, messages=turns("developer", parts))
    assert system.choices[0].message.content == developer.choices[0].message.content
    assert system.usage.prompt_tokens == developer.usage.prompt_tokens
    assert system.choices[0].message.content != chat(QUESTION).choices[0].message.content


def test_turns_reach_the_model(chat):
    turns = [
        {"role": "user", "content": "My name is Zebediah."},
        {"role": "assistant", "content": "Hello, Zebediah!"},
        {"role": "user", "content": "What is my name?"},
    ]
    whole, last = chat(None, messages=turns), chat(None, messages=turns[-1:])
    assert whole.usage.prompt_tokens > last.usage.prompt_tokens + 10
    assert whole.choices[0].message.content != last.choices[0].message.content


def test_unicode_survives(chat):
    answer = chat("Repeat: 東京 Привет 😀 é", max_tokens=40).choices[0].message.content
    assert "\ufffd" not in answer


def test_greedy_repeats_itself(chat):
    first, second = (chat(QUESTION).choices[0].message.content for _ in range(2))
    assert first == second


def test_a_seed_repeats_itself_and_another_one_does_not(chat):
    ask = lambda seed: chat(QUESTION, temperature=1.0, seed=seed).choices[0].message.content
    assert ask(7) == ask(7)
    assert ask(7) != ask(8)


def test_without_a_seed_answers_differ(chat):
    answers = {chat(QUESTION, temperature=1.0).choices[0].message.content for _ in range(3)}
    assert len(answers) > 1


def test_top_p_zero_like_values_are_greedy(chat):
    greedy = chat(QUESTION).choices[0].message.content
    assert chat(QUESTION, temperature=1.0, top_p=1e-6).choices[0].message.content == greedy
    assert chat(QUESTION, temperature=1.0, extra_body={"top_k": 1}).choices[0].message.content == greedy


def test_penalties_change_the_answer(chat):
    prompt = "Write the word ha again and again: ha ha ha ha ha ha ha ha"
    plain = chat(prompt).choices[0].message.content
    assert chat(prompt, frequency_penalty=2.0, presence_penalty=2.0).choices[0].message.content != plain


def test_n_gives_that_many_different_choices(chat):
    answer = chat(QUESTION, n=3, temperature=1.0, seed=11, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) == 3
    assert answer.usage.completion_tokens == 36
    again = chat(QUESTION, n=3, temperature=1.0, seed=11, max_tokens=12)
    assert [choice.message.content for choice in again.choices] == texts
    alone = chat(QUESTION, temperature=1.0, seed=11, max_tokens=12)
    assert alone.choices[0].message.content == texts[0]


@pytest.mark.parametrize("cut", [(5, 8), (11, 13), (7, 18)])
def test_a_stop_string_ends_the_answer_before_it(chat, cut):
    whole = chat(QUESTION).choices[0].message.content
    stop = whole[slice(*cut)]
    choice = chat(QUESTION, stop=stop).choices[0]
    assert choice.message.content == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


def test_the_first_of_several_stop_strings_counts(chat):
    whole = chat(QUESTION).choices[0].message.content
    late, early = whole[30:36], whole[10:15]
    choice = chat(QUESTION, stop=[late, "never-said", early]).choices[0]
    assert choice.message.content == whole[: min(whole.index(late), whole.index(early))]


def test_a_long_prompt_is_cached_the_second_time(chat):
    content = f"{uuid.uuid4()} " + "The road house kept four mules and a dog. " * 30
    first, second = (chat(content, max_tokens=4) for _ in range(2))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.usage.prompt_tokens == second.usage.prompt_tokens > 300
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert first.usage.prompt_tokens_details.cached_tokens < 64
    assert first.usage.prompt_tokens - 64 <= cached < first.usage.prompt_tokens


def test_unknown_fields_are_ignored(chat):
    plain = chat(QUESTION).choices[0].message.content
    unknown = {"made_up": {"deep": [1, 2]}, "another": None}
    answer = chat(QUESTION, user="someone", metadata={"a": "b"}, store=False, extra_body=unknown)
    assert answer.choices[0].message.content == plain


def test_neutral_values_of_unsupported_fields_are_fine(chat):
    plain = chat(QUESTION).choices[0].message.content
    neutral = {"tools": [], "tool_choice": "none", "logit_bias": {}, "response_format": {"type": "text"}}
    assert chat(QUESTION, **neutral).choices[0].message.content == plain
