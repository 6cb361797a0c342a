"""Makes the files in `data/` from the default model with Hugging Face transformers. See README.md."""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import sys

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers

import independent
import inputs

HERE = pathlib.Path(__file__).parent
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGES = ["torch", "transformers", "tokenizers", "gguf", "numpy"]
TOP, SAMPLE, SEED = 64, 256, 20261124
GREEDY_TOKENS = 64
WINDOW = 1024
# Around the edges of blocks (16) and of attention tiles, and the end.
POSITIONS = [0, 1, 7, 15, 16, 17, 31, 32, 64, 128, 192, 256]


def main():
    args = arguments()
    digest = hashlib.sha256(args.model.read_bytes()).hexdigest()
    if digest != MODEL_SHA256:
        raise SystemExit(f"{args.model} has sha256 {digest}, expected {MODEL_SHA256}")
    torch.set_num_threads(args.threads)
    reference = Reference(args.model)
    other = independent.Model(args.model)
    compare_weights(reference.f32, other)
    parts = {
        "tokenization": lambda: tokenization(reference, args),
        "chat": lambda: chat(reference),
        "logits": lambda: logits(reference, other),
        "greedy": lambda: greedy(reference),
        "perplexity": lambda: perplexity(reference),
    }
    for name in args.only or parts:
        write(name, provenance(name), parts[name]())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="what integration-tests/bench/llama_cpp.py builds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=["tokenization", "chat", "logits", "greedy", "perplexity"])
    args = parser.parse_args()
    if (not args.only or "tokenization" in args.only) and not args.llama_cpp:
        parser.error("tokenization is compared with llama.cpp: name its folder with --llama-cpp")
    return args


class Reference:
    """The tokenizer and the model in f32 and f64, as transformers reads them."""

    def __init__(self, path):
        load = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        self.loaded = transformers.AutoTokenizer.from_pretrained(**load)
        self.tokenizer = as_published(self.loaded.backend_tokenizer)
        self.f32 = model(load, torch.float32)
        self.f64 = model(load, torch.float32).double()

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def render(self, conversation, generate=True):
        messages = inputs.messages(conversation)
        return self.loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)

    def prompt(self, prompt):
        text = prompt if isinstance(prompt, str) else self.render(prompt)
        return text, self.encode(text)


def as_published(tokenizer):
    """transformers forgets the first pass of the pre-tokenizer `smollm`, which splits off every digit: put it back."""
    whole = Tokenizer.from_str(tokenizer.to_str())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    whole.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return whole


def model(load, dtype):
    made = transformers.AutoModelForCausalLM.from_pretrained(**load, dtype=dtype, attn_implementation="eager")
    return made.eval()


@torch.no_grad()
def run(model, ids):
    """Logits `[len(ids), vocabulary]`."""
    return model(torch.tensor([ids])).logits[0].numpy()


def compare_weights(model, other):
    """Every weight of transformers equals our own dequantisation, bit for bit."""
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    names |= {"attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
    names |= {"ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    theirs, seen = dict(model.named_parameters()), 1
    for name, ours in other.tensors.items():
        if name.startswith("blk."):
            _, layer, part, _ = name.split(".")
            heads = {"attn_q": other.heads, "attn_k": other.kv_heads}.get(part)
            ours = independent.unpermuted(ours, heads) if heads else ours
            their_name = f"model.layers.{layer}.{names[part]}.weight"
        else:
            their_name = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]
        if not np.array_equal(ours, theirs[their_name].detach().numpy()):
            raise SystemExit(f"{name}: transformers dequantises it differently")
        seen += 1
    tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    if not tied or len(theirs) + 1 != seen:
        raise SystemExit("transformers has other tensors than the file")
    print(f"{seen - 1} tensors are equal, the head is tied")


def tokenization(reference, args):
    llama_cpp = llama_cpp_tokenizer(args)
    ordinary = plain(reference)
    texts = []
    for name, text in {**inputs.TEXTS, "corpus": corpus()}.items():
        ids = reference.encode(text)
        case = {"name": name, "text": text, "ids": ids}
        decoded = reference.tokenizer.decode(ids, skip_special_tokens=False)
        others = {
            "plain_ids": ordinary.encode(text, add_special_tokens=False).ids,
            "llama_cpp_ids": llama_cpp(text, True),
            "transformers_gguf_ids": reference.loaded(text, add_special_tokens=False).input_ids,
        }
        case |= {key: value for key, value in others.items() if value != ids}
        if others["plain_ids"] != llama_cpp(text, False):
            case["llama_cpp_plain_ids"] = llama_cpp(text, False)
        if decoded != text:
            case["decoded"] = decoded
        print(name, len(ids), [key for key in case if key not in ("name", "text", "ids")])
        texts.append(case)
    return {"texts": texts}


def llama_cpp_tokenizer(args):
    """llama.cpp's own function, through the Python binding that comes with its source."""
    [binding] = args.llama_cpp.glob("llama_cpp_python-*")
    sys.path.insert(0, str(binding))
    os.environ["LLAMA_CPP_LIB_PATH"] = str(args.llama_cpp / "build" / "bin")
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    loaded = llama_cpp.llama_model_load_from_file(str(args.model).encode(), settings)
    vocabulary = llama_cpp.llama_model_get_vocab(loaded)

    def tokenize(text, special, keep=(quiet, loaded)):
        raw = text.encode()
        room = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), room, len(room), False, special)
        return list(room[:count])

    return tokenize


def chat(reference):
    cases = []
    for name, conversation in inputs.CONVERSATIONS.items():
        for generate in [True, False]:
            text = reference.render(conversation, generate)
            case = {"name": name, "messages": inputs.messages(conversation), "add_generation_prompt": generate}
            case |= {"text": text, "ids": reference.encode(text)}
            safe = safe_ids(reference, conversation, generate)
            cases.append(case | ({} if safe == case["ids"] else {"safe_ids": safe}))
    return {"template": reference.loaded.chat_template, "cases": cases}


def safe_ids(reference, conversation, generate):
    """Tokens of the rendered text where only the template's own words become special tokens: the messages are stood in
    for by marks while the text is cut at special tokens."""
    marks = [f"\ue000{i}\ue001" for i in range(len(conversation))]
    text = reference.render([(role, mark) for (role, _), mark in zip(conversation, marks)], generate)
    special = [token.content for token in reference.loaded.added_tokens_decoder.values()]
    ids = []
    for piece in re.split(f"({'|'.join(map(re.escape, special))})", text):
        if piece in special:
            ids.append(reference.tokenizer.token_to_id(piece))
        else:
            for mark, (_, content) in zip(marks, conversation):
                piece = piece.replace(mark, content)
            ids.extend(plain(reference).encode(piece, add_special_tokens=False).ids)
    return ids


def plain(reference):
    """The tokenizer without special tokens."""
    made = Tokenizer(reference.tokenizer.model)
    made.pre_tokenizer = reference.tokenizer.pre_tokenizer
    return made


def logits(reference, other):
    vocabulary = reference.f32.config.vocab_size
    sample = np.sort(np.random.default_rng(SEED).choice(vocabulary, SAMPLE, replace=False))
    cases = []
    for name, prompt in inputs.LOGIT_PROMPTS.items():
        text, ids = reference.prompt(prompt)
        single, double, independent = run(reference.f32, ids), run(reference.f64, ids), other.logits(ids)
        noise = {"f64": distance(single, double), "independent_f64": distance(single, independent)}
        print(name, len(ids), noise)
        positions = sorted({p for p in [*POSITIONS, len(ids) - 2, len(ids) - 1] if 0 <= p < len(ids)})
        rows = [row(p, single[p], sample) for p in positions]
        cases.append({"name": name, "text": text, "ids": ids, "noise": noise, "rows": rows})
    return {"sample_ids": sample.tolist(), "prompts": cases}


def distance(a, b):
    delta = np.abs(a.astype(np.float64) - b.astype(np.float64))
    row_max = delta.max(axis=1)
    return {
        "max": rounded(delta.max()),
        "rms": rounded(np.sqrt(np.mean(delta * delta))),
        "median_row_max": rounded(np.median(row_max)),
    }


def rounded(x):
    return float(f"{x:.3e}")


def row(position, logits, sample):
    top = np.argsort(-logits, kind="stable")[:TOP]
    return {
        "position": position,
        "top_ids": top.tolist(),
        "top_logits": shortest(logits[top]),
        "sample_logits": shortest(logits[sample]),
        "logsumexp": logsumexp(logits),
        "mean": float(np.mean(logits, dtype=np.float64)),
    }


def shortest(values):
    """The fewest digits that give the same f32 again."""
    return [float(str(value)) for value in values]


def logsumexp(logits):
    wide = logits.astype(np.float64)
    return float(wide.max() + np.log(np.sum(np.exp(wide - wide.max()))))


def greedy(reference):
    end = reference.f32.config.eos_token_id
    cases = []
    for name, prompt in inputs.GREEDY_PROMPTS.items():
        text, ids = reference.prompt(prompt)
        steps = continuation(reference.f32, ids, end)
        check_continuation(reference, ids, [step["id"] for step in steps])
        margins = [step["margin"] for step in steps]
        answer = reference.tokenizer.decode([step["id"] for step in steps], skip_special_tokens=True)
        print(f"{name} {len(ids)}+{len(steps)}, smallest margin {min(margins):.4f}: {answer!r}")
        finish = "stop" if steps[-1]["id"] == end else "length"
        cases.append({
            "name": name,
            "text": text,
            "ids": ids,
            "finish": finish,
            "continuation": [step["id"] for step in steps],
            "second": [step["second"] for step in steps],
            "margins": margins,
            "continuation_text": answer,
        })
    return {"max_tokens": GREEDY_TOKENS, "prompts": cases}


@torch.no_grad()
def continuation(model, ids, end):
    """Step by step over a cache, as a server does; stops after the end token."""
    steps, cache, rest = [], None, torch.tensor([ids])
    while len(steps) < GREEDY_TOKENS and not (steps and steps[-1]["id"] == end):
        out = model(rest, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = out.logits[0, -1].topk(2)
        margin = float(best.values[0] - best.values[1])
        steps.append({"id": int(best.indices[0]), "second": int(best.indices[1]), "margin": round(margin, 5)})
        rest = torch.tensor([[steps[-1]["id"]]])
    return steps


def check_continuation(reference, ids, continuation):
    """In f64 and in one go the same tokens win."""
    rows = run(reference.f64, ids + continuation)[len(ids) - 1 : -1]
    if rows.argmax(axis=1).tolist() != continuation:
        raise SystemExit("f64 continues differently: the prompt has a step without a winner, choose another one")


def perplexity(reference):
    ids = reference.encode(corpus())
    windows = []
    for start in range(0, len(ids), WINDOW):
        window = ids[start : start + WINDOW]
        single, double = (nll(run(model, window), window) for model in [reference.f32, reference.f64])
        windows.append({"tokens": len(window), "scored": len(window) - 1, "nll": single, "nll_f64": double})
    scored, total, total_f64 = (sum(w[key] for w in windows) for key in ["scored", "nll", "nll_f64"])
    print(f"perplexity {math.exp(total / scored):.4f} over {scored} tokens, f64 {math.exp(total_f64 / scored):.4f}")
    return {
        "window": WINDOW,
        "text_sha256": hashlib.sha256(corpus().encode()).hexdigest(),
        "tokens": len(ids),
        "scored": scored,
        "nll": total,
        "nll_f64": total_f64,
        "perplexity": math.exp(total / scored),
        "windows": windows,
    }


def nll(logits, ids):
    """Sum over tokens 1.. of minus log of their probability after the tokens before them."""
    return sum(logsumexp(logits[i]) - float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1))


def corpus():
    return (HERE / "corpus.txt").read_text()


def provenance(name):
    return {
        "command": f"make_reference.py --only {name}",
        "date": datetime.date.today().isoformat(),
        "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "model_sha256": MODEL_SHA256,
        "python": platform.python_version(),
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        "llama_cpp": "llama-cpp-python 0.3.36" if name == "tokenization" else None,
    }


def write(name, provenance, content):
    """One line for each member and for each element of a list of cases, so that a change can be read."""
    def dump(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def lines(value):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(dump(element) for element in value) + "\n]"
        return dump(value)

    members = {"provenance": provenance, **content}
    text = "{\n" + ",\n".join(f"{dump(key)}:{lines(value)}" for key, value in members.items()) + "\n}\n"
    assert json.loads(text) == members
    path = HERE / "data" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
