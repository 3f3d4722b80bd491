"""Other protocols for the same question: `/v1/responses` and `/v1/messages` to chat and back.

Pure: a request to a request, an answer to an answer, chunks to events. Where an engine speaks the
protocol itself, nothing here is used; a policy, and an engine that speaks chat only, need it.
"""
