"""The model: image, signal and text encoders, the lead decoder, and ECGScan, which holds them all."""
