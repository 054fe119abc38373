"""The witness port's drivers that need no witness process of ours."""
