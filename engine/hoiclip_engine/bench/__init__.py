"""What `hoiclip bench` is made of: loads, what they are put on, the machine, reports and their comparison."""
