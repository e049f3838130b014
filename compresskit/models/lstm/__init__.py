"""The BiLSTM readers: their options, tokenizer, vectors, layers and family."""
