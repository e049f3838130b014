"""Make question-answering checkpoints smaller, and measure what that costs."""

__version__ = "0.1.0"


def register() -> None:
    """Make compresskit's own models known to transformers' Auto classes.

    Call it once before `AutoModelForQuestionAnswering.from_pretrained`, `AutoTokenizer.from_pretrained` or
    `AutoConfig.from_pretrained` opens the folder of a BiLSTM reader. Calling it again does nothing. compresskit's own
    commands do this by themselves.

        import compresskit
        from transformers import AutoModelForQuestionAnswering

        compresskit.register()
        model = AutoModelForQuestionAnswering.from_pretrained("runs/lstm")
    """
    # Imported here, because this takes seconds, which `import compresskit` and `compresskit --help` must not spend.
    from compresskit.models.lstm.auto import register_auto_classes

    register_auto_classes()
