-- down: hiring
drop schema hiring cascade;
