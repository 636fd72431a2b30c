"""`python -m lr_gym` is `lr-gym`."""

from lr_gym.commands.main import start

if __name__ == "__main__":
    start()
