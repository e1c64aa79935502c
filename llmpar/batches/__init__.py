"""The OpenAI batch file, as `vllm run-batch` reads and writes it. Knows no engine, no file and no terminal."""
