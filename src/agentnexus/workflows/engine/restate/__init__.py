"""The engine on Restate: runs are virtual objects, and Restate hands them to whichever worker answers."""
