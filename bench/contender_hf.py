"""Hugging Face's T5 in torch: the reference's step, two forwards (labels, rationales), their losses summed, AdamW."""

import itertools

import batches
import contender
import torch
import transformers


class HuggingFace(contender.Contender):
    def __init__(self, args) -> None:
        torch.manual_seed(0)
        examples = batches.load(args.data)
        half = args.num_examples // 2
        count = min(len(rows) for rows in examples.values())
        self._batches = itertools.cycle(
            [
                tuple(self._collate(examples[task][start : start + half]) for task in ("label", "rationale"))
                for start in range(0, count - half + 1, half)
            ]
        )
        sizes = contender.SIZES[args.size]
        self._model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                vocab_size=sizes["vocab_size"],
                d_model=sizes["emb_dim"],
                d_kv=sizes["head_dim"],
                d_ff=sizes["mlp_dim"],
                num_layers=sizes["num_layers"],
                num_heads=sizes["num_heads"],
                dropout_rate=contender.DROPOUT_RATE,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
                decoder_start_token_id=0,
            )
        )
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=5e-5)
        self._args, self._labels = args, examples["label"][: args.num_decoded]

    @staticmethod
    def _collate(examples) -> dict[str, torch.Tensor]:
        """Rows padded to the longest of the batch, as the reference's collator does."""
        rows = batches.padded(examples, batches.longest(examples))
        inputs, targets = (
            torch.from_numpy(rows[name]).long() for name in ("encoder_input_tokens", "decoder_target_tokens")
        )
        labels = targets.masked_fill(targets == 0, -100)
        return {"input_ids": inputs, "attention_mask": (inputs != 0).long(), "labels": labels}

    def train(self, num_steps: int) -> int:
        self._model.train()
        tokens = 0
        for pair in itertools.islice(self._batches, num_steps):
            loss = 0.5 * self._model(**pair[0]).loss + 0.5 * self._model(**pair[1]).loss
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
            tokens += sum(
                int(half["attention_mask"].sum()) + int((half["labels"] != -100).sum()) for half in pair
            )
        return tokens

    def decode(self) -> int:
        self._model.eval()
        count = self._args.decode_batch
        length = batches.longest(self._labels)[1]
        num_decoded = 0
        for start in range(0, len(self._labels), count):
            features = self._collate(self._labels[start : start + count])
            with torch.inference_mode():
                rows = self._model.generate(
                    input_ids=features["input_ids"],
                    attention_mask=features["attention_mask"],
                    max_new_tokens=length,
                    min_new_tokens=length,
                    do_sample=False,
                )
            num_decoded += len(rows)
        return num_decoded


if __name__ == "__main__":
    contender.serve(HuggingFace(contender.arguments()))
