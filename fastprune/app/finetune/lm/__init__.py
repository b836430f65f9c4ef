"""Language models on the command line: their data as tokens, their model, how they are judged and scored."""
