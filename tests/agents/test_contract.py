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


class TestAuto(AgentContract):
    agent = "auto"
    episodes = 7


class TestAutoWithManyLevels(TestAuto):
    episodes = 5

    def make_problem(self):
        return ToyProblem(9, budget=0.3, steps=16, seed=5)


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


class TestAMC(TestDDPG):
    agent = "amc"
    fills = False


class TestTD3(AgentContract):
    agent = "td3"
    episodes = 5
    options: ClassVar = {"warmup": 2, "hidden": 16, "updates": 2}


class TestSAC(TestTD3):
    agent = "sac"


class TestGP(AgentContract):
    agent = "gp"
    episodes = 6
    options: ClassVar = {"startup": 4}


class TestCMAES(AgentContract):
    agent = "cmaes"
    episodes = 11
    options: ClassVar = {"population": 4}


class TestNSGA2(AgentContract):
    agent = "nsga2"
    episodes = 8
    options: ClassVar = {"population": 3}


class TestEvolution(AgentContract):
    agent = "evolution"
    episodes = 16


class TestNetAdapt(AgentContract):
    agent = "netadapt"
    episodes = 20
    probes = True
