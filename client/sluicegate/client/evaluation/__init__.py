"""Evaluations of a served model, made into evidence: bias on sentence pairs, memorisation of a corpus.

Needs the extra `sluicegate[evaluation]`; the commands load it when they are called.
"""
