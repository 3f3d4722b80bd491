"""The thin gateway: OpenAI's API in front, policies inside, engines behind."""
