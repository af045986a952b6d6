"""Pretraining: batches of rendered pages, objectives, and the trainer that takes the steps."""
