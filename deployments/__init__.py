"""Serves. Ray Serve and HTTP; the only place where the rooms are wired together."""
