from bnrepro.cli import main

main()
