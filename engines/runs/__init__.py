"""From a run's row to its result: puts the store, the data, the backbones and the prompts together.

`request` says what is to be trained (torch-free), `material` gathers the tensors, `perform` trains and judges,
`predict` answers for new images, `export` packs a learned prompt.
"""
