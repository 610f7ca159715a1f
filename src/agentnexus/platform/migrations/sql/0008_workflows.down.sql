drop schema workflow cascade;
