"""Every built-in agent keeps the contract that is shipped for plug-in authors."""

from typing import ClassVar

from autoprune.testing import AgentContract, ToyProblem


class TestUniform(AgentContract):
    agent = "uniform"


class TestShallow(AgentContract):
    agent = "shallow"


class TestDeep(AgentContract):
    agent = "deep"


class TestRandom(AgentContract):
    agent = "random"


class TestTPE(AgentContract):
    agent = "tpe"
    episodes = 16
    options: ClassVar = {"startup": 5}


class TestTPEAtMost(TestTPE):
    def make_problem(self):
        return ToyProblem(mode="at-most")


class TestSensitivity(AgentContract):
    agent = "sensitivity"
    episodes = 14
    probes = True


class TestSensitivityWithFewEpisodes(TestSensitivity):
    episodes = 4


class TestDDPG(AgentContract):
    agent = "ddpg"
    episodes = 10
    options: ClassVar = {"warmup": 4, "hidden": 32, "updates": 5}
