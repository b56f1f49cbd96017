"""The parent: watches, decides, replaces; runs no user code. Standard library only, no asyncio."""
