import sys

from bnrepro.train.execute import main

sys.exit(main())
