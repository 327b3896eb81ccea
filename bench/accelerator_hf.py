"""Hugging Face's T5 in torch on one device, as bench/accelerator.py measures it: the reference's step, on padded rows.

Two forwards (labels, rationales), their losses summed, AdamW. Computation in bfloat16 is autocast's.
"""

import contextlib
from collections.abc import Sequence

import accelerator_step
import batches
import contender
import torch
import transformers
from accelerator_step import NUM_BATCHES

Half = dict[str, torch.Tensor]


class HuggingFace(accelerator_step.Contender):
    def prepare(self) -> None:
        settings = self.settings
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        examples = batches.load(settings.examples)
        half = settings.padded_examples // 2
        count = min(min(len(rows) for rows in examples.values()) // half, NUM_BATCHES)
        self.batches = [
            tuple(_collate(examples[kind][n * half : (n + 1) * half]) for kind in ("label", "rationale"))
            for n in range(count)
        ]
        self.num_tokens = [
            sum(int(of_half["attention_mask"].sum() + (of_half["labels"] != -100).sum()) for of_half in pair)
            for pair in self.batches
        ]
        self.num_targets = [
            sum(int((of_half["labels"] != -100).sum()) for of_half in pair) for pair in self.batches
        ]
        self.forwards = [
            [(half, of_half["input_ids"].shape[1], of_half["labels"].shape[1]) for of_half in pair]
            for pair in self.batches
        ]
        sizes = contender.SIZES[settings.size]
        self._model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                vocab_size=sizes["vocab_size"],
                d_model=sizes["emb_dim"],
                d_kv=sizes["head_dim"],
                d_ff=sizes["mlp_dim"],
                num_layers=sizes["num_layers"],
                num_heads=sizes["num_heads"],
                dropout_rate=settings.dropout_rate,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
                decoder_start_token_id=0,
            )
        )
        self._labels = examples["label"][: settings.labels]

    def start(self) -> None:
        self._model = self._model.to(self._device).train()
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=5e-5, fused=self._device == "cuda" or None
        )

    def run(self, batches: Sequence[tuple[Half, Half]]) -> None:
        for pair in batches:
            with self._computing():
                losses = [self._model(**_moved(half, self._device)).loss for half in pair]
            self._loss = 0.5 * losses[0] + 0.5 * losses[1]
            self._loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def _computing(self) -> contextlib.AbstractContextManager:
        if self.settings.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=getattr(torch, self.settings.dtype))

    def wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

    def loss(self) -> float:
        return float(self._loss)

    def decode(self, start: int) -> int:
        if start == 0:
            self._model = self._model.to(getattr(torch, self.settings.dtype)).eval()
        rows = self._labels[start : start + self.settings.label_batch]
        features = _moved(_collate(rows), self._device)
        length = batches.longest(self._labels)[1]
        with torch.inference_mode():
            decoded = self._model.generate(
                input_ids=features["input_ids"],
                attention_mask=features["attention_mask"],
                max_new_tokens=length,
                min_new_tokens=length,
                do_sample=False,
            )
        return len(decoded.cpu())

    def device(self) -> tuple[str, int | None]:
        if self._device == "cuda":
            return torch.cuda.get_device_name(0), torch.cuda.max_memory_allocated()
        return "cpu", None

    def versions(self) -> str:
        return f"torch {torch.__version__}, transformers {transformers.__version__}"

    def notes(self) -> list[str]:
        attention = getattr(self._model.config, "_attn_implementation", None)
        return [f"attention {attention}", f"{self.settings.padded_examples} padded examples"]


def _collate(examples: Sequence[batches.Example]) -> Half:
    """Rows padded to the longest of the batch, as the reference's collator does."""
    rows = batches.padded(examples, batches.longest(examples))
    inputs, targets = (
        torch.from_numpy(rows[name]).long() for name in ("encoder_input_tokens", "decoder_target_tokens")
    )
    labels = targets.masked_fill(targets == 0, -100)
    return {"input_ids": inputs, "attention_mask": (inputs != 0).long(), "labels": labels}


def _moved(half: Half, device: str) -> Half:
    return {name: rows.to(device) for name, rows in half.items()}


if __name__ == "__main__":
    accelerator_step.serve(HuggingFace)
