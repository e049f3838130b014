"""Tasks: how a question is asked, taught and answered. One file each, with what it is made of beside it."""
