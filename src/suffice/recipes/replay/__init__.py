"""Recorded samples through the policies and sessions of live requests; queueing on top."""
