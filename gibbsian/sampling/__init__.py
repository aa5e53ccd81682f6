"""Sampling the next token: filters, policies, the decision between them, and the draw."""
