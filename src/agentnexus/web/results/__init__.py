"""What an agent gave back, made ready to show. Everything in it is a stranger's data: it becomes text, never markup."""

from agentnexus.web.results.blocks import Block, blocks_of
from agentnexus.web.results.files import FoundFile, find_file

__all__ = ["Block", "FoundFile", "blocks_of", "find_file"]
