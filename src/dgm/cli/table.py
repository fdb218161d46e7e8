"""placeholder"""
def summary(runs): print(runs)
