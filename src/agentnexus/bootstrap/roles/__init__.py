"""What each role of a node does: open what it needs, run until stopped, close in order. A file each: none pays for
the imports of the others.
"""
