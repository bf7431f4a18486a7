"""The commands of the light client. main.py puts them together."""
