"""What the evaluation node is made of: hearing, pairing, recording and reporting."""
