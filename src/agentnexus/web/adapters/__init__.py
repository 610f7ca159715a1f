"""The pages' doors fulfilled by the real services."""
