"""Ears, gate and turns: what is heard on each leg, whether it is sent, and when somebody has finished speaking."""
