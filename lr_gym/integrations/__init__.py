"""`LRController` in the training loops of other packages; nothing here is loaded before it is asked for.

| module | for |
|---|---|
| `lightning` | Lightning: a callback |
| `transformers` | the `Trainer` of Hugging Face's transformers: a callback, and a `Trainer` that hands over losses |
| `plan` | what both share: options that are checked early, the controller made when the training is known |

Accelerate needs nothing of its own: docs/own-loop.md.
"""
