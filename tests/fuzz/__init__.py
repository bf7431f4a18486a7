"""What strangers can send or write, changed at random: nothing but a typed refusal may come of it.

`make test` tries some hundred inputs of each target, `make fuzz` goes on for as long as it is told.
"""
