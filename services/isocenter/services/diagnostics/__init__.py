"""Finding out what is wrong: findings, doctor, captures and their dissection."""
