"""Which jobs a study needs, and what each is called, before anything runs."""
