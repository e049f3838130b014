"""What this machine can run: its hardware, the packages, and which way each method takes here.

The process of the verb imports nothing that may be broken. Each package is tried in a process of its own.
"""
