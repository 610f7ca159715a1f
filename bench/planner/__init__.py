"""How often planners hit: tasks people really ask for, the shape of the plan each should become, and a runner."""
