"""Telling what happens: durable transitions from the ledger's outbox, and progress in passing."""
