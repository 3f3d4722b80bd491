"""Certified policies in service: switched off by an alarm, monitored, audited."""
