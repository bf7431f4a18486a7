"""The commands of the light client. app.py puts them together."""
