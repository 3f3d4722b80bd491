"""Certificates earned on live traffic: evidence, change detection, what is switched on."""
