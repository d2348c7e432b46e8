"""Graphs in fp16 and int8: the policy of nodes that stay in a higher precision, calibration, and an accuracy gate."""
