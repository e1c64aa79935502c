"""What is made of questions: documents, one answer of many, a question over documents, files of requests."""
