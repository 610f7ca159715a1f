drop schema indexer cascade;
