"""Fine-tune a language model on the tasks *understand* and *word* of TellerChat, and measure what it learnt.

    fine_tune(LanguageModelConfig(rank=8), examples, Path("adapters/tellerchat"))

`token_rows` tokenises, `prefix_tree` packs batches, `fine_tune` runs TRL's `SFTTrainer`, `adapter_folder` writes the
result. A user's own examples have the format of TellerChat.
"""
